"""Books of accounts: portfolios, margins, equity and requirement."""
