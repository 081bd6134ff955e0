"""``POST /v1/responses``, and stored responses that a later request continues."""
