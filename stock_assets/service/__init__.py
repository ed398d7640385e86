"""The service: a JSON API and a dashboard over what the loop produced. It only reads."""
