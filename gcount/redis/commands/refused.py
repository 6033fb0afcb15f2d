"""Commands of Redis that make no sense here, each with the reason."""

from typing import Final

GROW: Final = "counters only grow; nothing is ever subtracted, set or deleted"

_REASONS: Final = {
    GROW: "DECR DECRBY SET SETNX SETEX PSETEX MSET MSETNX GETSET GETDEL GETEX SETRANGE APPEND SETBIT DEL UNLINK "
    "FLUSHALL FLUSHDB RENAME RENAMENX RESTORE MOVE COPY",
    "counters count in whole numbers": "INCRBYFLOAT",
    "counters do not expire": "EXPIRE EXPIREAT PEXPIRE PEXPIREAT PERSIST",
    "there are no scripts": "EVAL EVAL_RO EVALSHA EVALSHA_RO SCRIPT FUNCTION FCALL FCALL_RO",
    "there are no messages": "SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE PUBLISH SPUBLISH PUBSUB MONITOR",
    "all there is are counters": "HINCRBY HINCRBYFLOAT HSET HGET HGETALL LPUSH RPUSH LRANGE SADD SMEMBERS ZADD ZINCRBY "
    "ZRANGE XADD PFADD",
    "every increment is on disk before it is answered": "SAVE BGSAVE BGREWRITEAOF",
    "the members are set with POST /config": "CLUSTER REPLICAOF SLAVEOF",
    "the node ends at SIGTERM": "SHUTDOWN",
}
REFUSED: Final = {name.encode(): reason for reason, names in _REASONS.items() for name in names.split()}
