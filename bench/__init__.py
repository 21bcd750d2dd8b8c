"""What measures: beside the official clients, never deployed."""
