"""Reports of many windows: kept, thinned, compared and printed."""
