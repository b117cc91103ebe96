"""The data sets: CIFAR-10 read from a copy or downloaded, synthetic images, and augmentation."""
