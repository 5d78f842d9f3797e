"""What the workbook is measured against: references of our own, and open libraries where they are installed."""
