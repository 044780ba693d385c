"""Read documents from object stores (s3://, gs://, abfs://, hf://) and web servers (http://, https://)."""
