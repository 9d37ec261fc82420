"""Operations as files: what is uploaded to which boards in which steps, and whether that can be done."""
