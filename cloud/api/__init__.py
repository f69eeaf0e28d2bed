"""HTTP for programs, under `/api/v1`: a route parses, calls one function, returns."""
