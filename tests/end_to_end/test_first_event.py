def test_a_message_in_is_heard_by_the_stock_client(server, node):
    instance = server.create()
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    answer = server.receive(instance, "Good morning")

    assert (answer.status, answer.json) == (200, {"status": "success"})
    event = client.event("messages.upsert")
    assert event["instance"] == instance.name
    assert event["data"]["message"] == {"conversation": "Good morning"}
