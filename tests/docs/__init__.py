"""What the README, the changelog and `.env.example` say, held against what is so."""
