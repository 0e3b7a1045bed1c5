"""What pages of the console show: functions from the endpoint's service to figures and charts."""
