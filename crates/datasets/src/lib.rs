//! From files to batches: readers, transforms, samplers and a loader that decodes ahead.
