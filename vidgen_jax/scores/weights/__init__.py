"""Weights from elsewhere, read without the frameworks that wrote them, and the form in which they are kept here."""
