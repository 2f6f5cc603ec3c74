"""What is known of the person's side of an event beside the event: device, bots, channel, place, address."""
