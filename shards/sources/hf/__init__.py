"""Image data sets of Hugging Face, through the library ``datasets`` or as parquet files behind an address."""
