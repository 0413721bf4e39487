"""Events get to webhooks, whatever receivers, processes and clocks do."""
