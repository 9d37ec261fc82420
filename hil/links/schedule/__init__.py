"""Links that follow a contact plan: windows of rows, the player, what was applied."""
