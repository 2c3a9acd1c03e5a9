def test_a_session_is_created_listed_and_closed(any_world):
    made = any_world.create()
    assert [row["id"] for row in any_world.ok("list", "-o", "json").sessions] == [made["id"]]
    assert any_world.ok("close", made["id"], "-o", "json").outcomes[0]["outcome"] == "closed"
    any_world.assert_nothing_left()
