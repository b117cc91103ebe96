"""What people see: progress, tables and pictures in the terminal, figures as files."""
