"""What onnxplain uses of other libraries beyond their documented interfaces, a module for each library.

Each names the version that it was tested with; pyproject bounds the library's next major version. What is only for
convenience is skipped with a LibraryWarning where a version does not have it.
"""
