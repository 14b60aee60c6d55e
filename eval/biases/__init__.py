"""Gender and smile in data and samples."""
