"""Why an int8 file decides otherwise than its float twin: every tensor's range, and what each quantiser costs."""
