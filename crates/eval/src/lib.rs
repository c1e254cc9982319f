//! How good an embedding is: exact blocked search, retrieval, verification, clustering and projection.
