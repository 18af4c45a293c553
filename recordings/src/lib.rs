//! Sessions, kept: journal, asciicast, chunks, store, upload.
