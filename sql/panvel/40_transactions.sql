-- Distributed transactions (coordinator/transaction/README.md).

-- A row appears with the local commit of a transaction that was prepared on the nodes, and goes
-- when all of them have been seen to have committed. Present: commit. Absent: roll back.
CREATE TABLE panvel.commit_record (
    transaction xid8 NOT NULL,
    nonce bigint NOT NULL,
    nodes integer[] NOT NULL,
    since timestamptz NOT NULL,
    PRIMARY KEY (transaction, nonce)
);
REVOKE ALL ON panvel.commit_record FROM PUBLIC;
-- Not dumped: a record is about this server's transactions and no other's.

CREATE FUNCTION panvel.transactions_in_doubt()
    RETURNS TABLE (gid text, node text, state text, since timestamptz)
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'panvel_transactions_in_doubt';
REVOKE ALL ON FUNCTION panvel.transactions_in_doubt() FROM PUBLIC;
COMMENT ON FUNCTION panvel.transactions_in_doubt() IS
    'what is prepared on the nodes, and commit records that not all nodes have confirmed';

CREATE VIEW panvel.transactions AS SELECT * FROM panvel.transactions_in_doubt();
REVOKE ALL ON panvel.transactions FROM PUBLIC;
COMMENT ON VIEW panvel.transactions IS 'distributed transactions in doubt';

CREATE FUNCTION panvel.recover_transactions() RETURNS bigint
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'panvel_recover_transactions';
REVOKE ALL ON FUNCTION panvel.recover_transactions() FROM PUBLIC;
COMMENT ON FUNCTION panvel.recover_transactions() IS
    'commits or rolls back what is prepared on the nodes and whose transaction has ended; returns how many';
