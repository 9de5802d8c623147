"""A TCP proxy in front of a worker, whose network can be made bad while a test runs.

    with Proxy(port) as proxy:
        db.execute("select panvel.set_node('w1', '127.0.0.1', %s)", [proxy.port])
        proxy.delay = 0.05          # seconds, each way
        proxy.rate = 20_000         # bytes per second, each way
        proxy.swallow = True        # half-open: bytes are taken and go nowhere
        proxy.refuse = True         # new connections are reset
        proxy.cut_after(1000)       # every connection is reset in the middle of a message
        proxy.cut()                 # every connection is reset now
        proxy.heal()
"""

import asyncio
import socket
import struct
import threading

CHUNK = 16384


class Proxy:
    def __init__(self, port, host="127.0.0.1"):
        self.target = (host, port)
        self.heal()
        self.port = None
        self._writers = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()

    def heal(self):
        """As good as new. Connections that have lost bytes are of no use any more."""
        lost = getattr(self, "swallow", False)
        self.delay = 0.0
        self.rate = None
        self.swallow = False
        self.refuse = False
        self._left = None  # bytes until the cut
        if lost:
            self.cut()

    def cut_after(self, count):
        self._left = count

    def cut(self):
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(5)

    def __enter__(self):
        self._thread.start()
        if not self._ready.wait(5):
            raise RuntimeError("the proxy did not start")
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(5)
        self._thread.join(5)

    # ------------------------------------------------------------------ in the loop's thread

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._loop.run_forever()
        self._loop.close()

    async def _listen(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._ready.set()

    async def _stop(self):
        self._server.close()
        await self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._loop.call_soon(self._loop.stop)

    async def _cut(self):
        for writer in list(self._writers):
            self._reset(writer)

    def _reset(self, writer):
        """Closes with RST, as a host does that has lost its memory of the connection."""
        self._writers.discard(writer)
        connection = writer.get_extra_info("socket")
        if connection is not None and connection.fileno() >= 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def _accept(self, reader, writer):
        if self.refuse:
            self._reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            self._reset(writer)
            return
        pair = (writer, far_writer)
        self._writers.update(pair)
        await asyncio.gather(self._pump(reader, far_writer, pair), self._pump(far_reader, writer, pair))

    async def _pump(self, reader, writer, pair):
        try:
            while data := await reader.read(CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                if self.rate:
                    await asyncio.sleep(len(data) / self.rate)
                if self.swallow:
                    continue
                if self._left is not None:
                    part = data[: self._left]
                    self._left -= len(part)
                    if len(part) < len(data) or self._left == 0:
                        writer.write(part)
                        await writer.drain()
                        self._left = None
                        break
                writer.write(data)
                await writer.drain()
            else:
                writer.write_eof()
                return
        except (OSError, RuntimeError):
            pass
        for end in pair:
            self._reset(end)
