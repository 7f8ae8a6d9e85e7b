"""The report as one page of HTML: what it holds, and how it is put together."""
