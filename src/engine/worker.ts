import { receiveMessageOnPort, workerData } from "node:worker_threads";
import { asFailure } from "../kit/failure.js";
import { Arena } from "../sys/arena.js";
import { systemClock } from "../sys/clock.js";
import { loadLibc } from "../sys/libc.js";
import { Bell } from "../sys/poll.js";
import { DataPlane } from "./dataplane.js";
import type { Reply, Request, ThreadData } from "./messages.js";

/** Whether this thread was started by an Engine, for a file that is both program and thread. */
export function isEngineThread(): boolean {
  return workerData !== null && typeof workerData === "object" && workerData.purpose === "exitnode-engine";
}

/** The engine's thread, from its start to the close request. It never returns to the event loop: it blocks in poll(). */
export function runWorker(data: ThreadData = workerData as ThreadData): void {
  const libc = loadLibc();
  const bell = new Bell(libc, new Arena(libc, 16), data.bellFd);
  const plane = new DataPlane(libc, systemClock, bell.fd);
  for (let open = true; open; ) {
    if (!plane.turn()) continue;
    bell.hush();
    for (;;) {
      const message: { message: Request } | undefined = receiveMessageOnPort(data.port);
      if (message === undefined) break;
      data.port.postMessage(answer(plane, message.message));
      if (message.message.do === "close") open = false;
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
