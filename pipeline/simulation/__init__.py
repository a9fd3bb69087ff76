"""What a run would take, computed; and real graphs whose work is a sleep, to hold that against."""
