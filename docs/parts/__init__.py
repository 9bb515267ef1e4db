"""Programs that write parts of docs/ and README.md from the code and the results: `make docs-parts` runs all."""
