-- What the index holds, as tables. Each statement that answers a caller is one transaction.

CREATE TABLE messages (
	tenant text NOT NULL, id text NOT NULL, conversation_type smallint NOT NULL, conversation text NOT NULL,
	sender text NOT NULL, type smallint NOT NULL, sent_at timestamptz NOT NULL, attachments text[], labels text[],
	recall_id text, recalled_by text, recalled_role text, recalled_at timestamptz, -- the tombstone
	PRIMARY KEY (tenant, id)
);

-- The recalls of a conversation, in order.
CREATE TABLE outbox (
	sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	tenant text NOT NULL, conversation_type smallint NOT NULL, conversation text NOT NULL,
	message text NOT NULL, recall_id text NOT NULL
);
CREATE INDEX by_conversation ON outbox (tenant, conversation_type, conversation, sequence);

CREATE TABLE ledger (
	tenant text NOT NULL, recall_id text NOT NULL, message text NOT NULL, sequence bigint NOT NULL,
	actor text NOT NULL, role text NOT NULL, reason text, ext text, recalled_at timestamptz NOT NULL,
	rule text NOT NULL, policy_digest text NOT NULL,
	PRIMARY KEY (tenant, recall_id, message)
);

CREATE TABLE steps (
	sequence bigint NOT NULL, step text NOT NULL,
	outcome text, attempts int NOT NULL DEFAULT 0, error text, changed_at timestamptz,
	PRIMARY KEY (sequence, step)
);
CREATE INDEX open_steps ON steps (step, sequence) WHERE outcome IS NULL;

-- recall_message decides about a recall and carries it out. It is one call, so that it is one round trip, and its
-- statements are planned once a connection.
CREATE FUNCTION recall_message(
	of_tenant text, of_message text, by_recall text, actor text, role text, requested_at timestamptz, step_names text[],
	policy_digest text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	m messages;
	number bigint;
BEGIN
	IF role NOT IN ('owner', 'admin', 'system') THEN
		RETURN 'forbidden';
	END IF;
	PERFORM FROM ledger l WHERE l.tenant = of_tenant AND l.recall_id = by_recall AND l.actor <> recall_message.actor LIMIT 1;
	IF FOUND THEN
		RETURN 'recall_id_taken';
	END IF;
	UPDATE messages SET recall_id = by_recall, recalled_by = actor, recalled_role = role, recalled_at = requested_at
		WHERE tenant = of_tenant AND id = of_message AND recall_id IS NULL AND sent_at + interval '7 days' >= requested_at
		RETURNING * INTO m;
	IF NOT FOUND THEN
		SELECT * INTO m FROM messages WHERE tenant = of_tenant AND id = of_message;
		RETURN CASE WHEN NOT FOUND THEN 'not_found' WHEN m.recall_id IS NULL THEN 'window_expired'
			WHEN m.recall_id = by_recall THEN 'recalled' ELSE 'already_recalled' END;
	END IF;
	INSERT INTO outbox (tenant, conversation_type, conversation, message, recall_id)
		VALUES (of_tenant, m.conversation_type, m.conversation, of_message, by_recall) RETURNING sequence INTO number;
	INSERT INTO ledger (tenant, recall_id, message, sequence, actor, role, recalled_at, rule, policy_digest)
		VALUES (of_tenant, by_recall, of_message, number, actor, role, requested_at, 'managers', policy_digest);
	IF step_names <> '{}' THEN
		INSERT INTO steps (sequence, step) SELECT number, unnest(step_names);
	END IF;
	RETURN 'recalled';
END
$$;
