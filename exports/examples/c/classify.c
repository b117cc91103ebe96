// Classifies images with an exported model in OpenVINO: classify MODEL [THREADS] < IMAGES
//
// An image is 3,072 bytes on stdin: 32 rows of 32 pixels, red, green and blue of each. For each a line is printed: the
// class, the milliseconds it took, and the ten probabilities.
#include <openvino/c/openvino.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SIDE = 32, CHANNELS = 3, CLASSES = 10, IMAGE_BYTES = SIDE * SIDE * CHANNELS };
static const char *const NAMES[CLASSES] = {"airplane", "automobile", "bird", "cat", "deer",
                                           "dog", "frog", "horse", "ship", "truck"};

static void check(ov_status_e status, const char *what) {
    if (status == OK) return;
    const char *reason = ov_get_last_err_msg();
    fprintf(stderr, "classify: %s: %s\n", what, reason && *reason ? reason : ov_get_error_info(status));
    exit(1);
}

static double milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

static void print_line(const float *probabilities, double duration) {
    int best = 0;
    for (int class = 1; class < CLASSES; class++)
        if (probabilities[class] > probabilities[best]) best = class;
    printf("%s %.6f", NAMES[best], duration);
    for (int class = 0; class < CLASSES; class++) printf(" %.9g", (double)probabilities[class]);
    printf("\n");
    fflush(stdout);
}

int main(int count, char **arguments) {
    if (count != 2 && count != 3) {
        fprintf(stderr, "usage: classify MODEL [THREADS] < IMAGES\n");
        return 2;
    }
    const char *path = arguments[1], *threads = count == 3 ? arguments[2] : "1";

    ov_core_t *core;
    ov_model_t *model;
    ov_compiled_model_t *compiled;
    ov_infer_request_t *request;
    check(ov_core_create(&core), "OpenVINO");
    check(ov_core_read_model(core, path, NULL, &model), path);
    // Without the first of these some processors compute in bfloat16.
    check(ov_core_compile_model(core, model, "CPU", 6, &compiled, "INFERENCE_PRECISION_HINT", "f32",
                                "INFERENCE_NUM_THREADS", threads, "NUM_STREAMS", "1"),
          path);
    check(ov_compiled_model_create_infer_request(compiled, &request), path);

    static unsigned char image[IMAGE_BYTES];
    const int64_t sides[] = {1, SIDE, SIDE, CHANNELS};
    ov_shape_t shape;
    ov_tensor_t *input;
    check(ov_shape_create(4, sides, &shape), "shape");
    check(ov_tensor_create_from_host_ptr(U8, shape, image, &input), "image");
    check(ov_infer_request_set_input_tensor(request, input), path);

    size_t bytes;
    while ((bytes = fread(image, 1, IMAGE_BYTES, stdin)) == IMAGE_BYTES) {
        const double start = milliseconds();
        check(ov_infer_request_infer(request), path);
        const double duration = milliseconds() - start;
        ov_tensor_t *output;
        ov_element_type_e type;
        size_t size;
        void *data;
        check(ov_infer_request_get_output_tensor(request, &output), path);
        check(ov_tensor_get_element_type(output, &type), path);
        check(ov_tensor_get_size(output, &size), path);
        check(ov_tensor_data(output, &data), path);
        if (type != F32 || size != CLASSES) {
            fprintf(stderr, "classify: %s: its output is not ten float32 numbers\n", path);
            return 1;
        }
        print_line(data, duration);
        ov_tensor_free(output);
    }
    if (bytes != 0) {
        fprintf(stderr, "classify: the last image has %zu bytes, not %d\n", bytes, IMAGE_BYTES);
        return 1;
    }
    return 0;
}
