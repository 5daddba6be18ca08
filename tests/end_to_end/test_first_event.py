def test_an_inbound_message_reaches_the_stock_client(server, node):
    instance = server.create()
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    response = server.receive(instance, "Good morning")

    assert (response.status, response.json) == (200, {"status": "success"})
    event = client.event("messages.upsert")
    assert event["instance"] == instance.name
    assert event["data"]["message"] == {"conversation": "Good morning"}
