"""The store on DynamoDB: for a zoo whose server runs as several processes, on any number of machines."""
