<?php
// phpredis.
[, $port, $name, $settings, $seconds] = $argv;
$port = (int) $port;

function connect(Redis $redis, int $port, string $settings): void {
    if ($settings === "default") {
        $redis->connect("127.0.0.1", $port);
    } else {
        $redis->connect("127.0.0.1", $port, 1, null, 0, 3);
        $redis->setOption(Redis::OPT_MAX_RETRIES, 0);
    }
}

echo "version " . phpversion("redis") . ", PHP " . PHP_VERSION . "\n";
$end = microtime(true) + (float) $seconds;
$redis = new Redis();
$connected = false;
while (microtime(true) < $end) {
    $sent = false;
    try {
        if (!$connected) {
            connect($redis, $port, $settings);
            $connected = true;
        }
        $sent = true;
        $answer = $redis->incr($name);
        echo $answer === false ? "error " . $redis->getLastError() . "\n" : "ok\n";
        usleep(1000);
    } catch (RedisException $error) {
        echo ($sent ? "unknown " : "error ") . preg_replace('/\s+/', ' ', $error->getMessage()) . "\n";
        $connected = $settings === "default" && $connected;
        usleep(50000);
    }
}
