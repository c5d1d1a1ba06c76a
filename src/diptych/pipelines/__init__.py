"""Row 5: `text_to_image` and `image_to_text`: stateless `prepare / step / finish`, and the whole
road in one call."""
