import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { insidePlace } from "./insideplace.js";
import type { Place } from "./places.js";

let last: Promise<unknown> = Promise.resolve();

/** A UDP socket of this process inside a place. */
export function socketIn(place: Place, address: string, port = 0): Promise<Socket> {
  const open = (): Promise<Socket> =>
    insidePlace(place, async () => {
      const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
      socket.bind(port, address);
      await once(socket, "listening");
      return socket;
    });
  // One at a time: whoever entered meanwhile would come home to where the other one is.
  const opened = last.then(open, open);
  last = opened;
  return opened;
}
