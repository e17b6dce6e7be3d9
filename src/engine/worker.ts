import { receiveMessageOnPort, workerData } from "node:worker_threads";
import { asFailure } from "../kit/failure.js";
import { TokenBucket } from "../kit/tokenbucket.js";
import { Arena } from "../sys/arena.js";
import { systemClock } from "../sys/clock.js";
import { compileSooner } from "../sys/compiler.js";
import { loadLibc } from "../sys/libc.js";
import { Bell } from "../sys/poll.js";
import { DataPlane } from "./dataplane.js";
import type { ProbeIn, ProbeOut, Reply, Request, ThreadData } from "./messages.js";

/** Whether this thread was started by an Engine, for a file that is both program and thread. */
export function isEngineThread(): boolean {
  return workerData !== null && typeof workerData === "object" && workerData.purpose === "exitnode-engine";
}

/** Probes handed on; further ones are dropped, as any network might: they must not fill the queue. */
const PROBES_MAX = { perSecond: 2_000, burst: 2_000 } as const;

/** The engine's thread, from its start to the close request. It never returns to the event loop: it blocks in poll(). */
export function runWorker(data: ThreadData = workerData as ThreadData): void {
  // A tunnel of little traffic runs each function some dozen times a second: by itself V8 would interpret it for minutes.
  compileSooner();
  const libc = loadLibc();
  const bell = new Bell(libc, new Arena(libc, 16), data.bellFd);
  const probes = new TokenBucket(PROBES_MAX);
  const plane = new DataPlane({
    libc,
    clock: systemClock,
    controlFd: bell.fd,
    without: new Set(data.without),
    onProbe: (datagram, from) => {
      if (probes.spend(1, systemClock.now())) data.port.postMessage({ from, datagram } satisfies ProbeIn);
    },
  });
  for (let open = true; open; ) {
    if (!plane.turn()) continue;
    bell.hush();
    for (;;) {
      const received: { message: Request | ProbeOut } | undefined = receiveMessageOnPort(data.port);
      if (received === undefined) break;
      const { message } = received;
      if (message.do === "probe") plane.sendProbe(message.to, message.datagram, message.whole);
      else data.port.postMessage(answer(plane, message));
      if (message.do === "close") open = false;
    }
  }
  data.port.close();
}

function answer(plane: DataPlane, request: Request): Reply {
  const { id } = request;
  try {
    switch (request.do) {
      case "set":
        plane.set(request.want);
        return { id };
      case "point":
        plane.point(request.publicKey, request.endpoint);
        return { id };
      case "state":
        return { id, state: plane.state() };
      case "close":
        plane.close();
        return { id };
    }
  } catch (error) {
    return { id, failure: asFailure(error).toJSON() };
  }
}
