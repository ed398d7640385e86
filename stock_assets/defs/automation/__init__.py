"""What runs by itself: jobs, the daily schedule, and the sensors."""
