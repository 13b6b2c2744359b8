from tests.measures.harness import batches

__all__ = ["batches"]
