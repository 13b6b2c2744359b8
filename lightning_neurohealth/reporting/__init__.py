"""How reports are told: as tables, pictures, a page and a document; and kept, thinned and compared."""
