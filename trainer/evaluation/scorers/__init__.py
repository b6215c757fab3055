"""What judges pictures: one module for each kind of judge, behind one small protocol (`..scorer`)."""
