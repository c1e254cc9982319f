//! What libraries read from the environment when a program starts.

/// What a program that trains on a CPU should find in its environment, by name; the command `nearfar` starts itself with it.
///
/// - candle's element-wise operations run in the thread that calls them (`CANDLE_NUM_THREADS`). They have threads of their own,
///   beside those of the kernels and of the matrix products, which wait in a loop after each operation, on the cores that those
///   need.
/// - The C library of Linux keeps memory that was given back (`MALLOC_…`, in bytes; other C libraries do not read them). By default
///   much of what tensors take goes back to the system when they are dropped, and is asked for anew, page by page, by the next ones.
///   What is larger than 32 MiB still goes back.
///
/// Results do not depend on it. There are no functions to set these, and changing the environment of a running process is not safe.
pub const ENVIRONMENT: [(&str, &str); 4] = [
    ("CANDLE_NUM_THREADS", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "33554432"), // The most that it takes.
    ("MALLOC_TRIM_THRESHOLD_", "17179869184"),
    ("MALLOC_TOP_PAD_", "67108864"),
];
