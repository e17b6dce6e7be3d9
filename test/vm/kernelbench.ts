import { KernelWireGuard } from "../../src/agent/kernelwireguard.js";
import { systemClock } from "../../src/sys/clock.js";
import { openProbeSocket } from "../../src/sys/probesocket.js";
import { insidePlace } from "../engine/insideplace.js";
import type { Place } from "../engine/places.js";

/** The kernel's WireGuard in a place, probes and all. */
export const kernelIn = (place: Place, device: string): KernelWireGuard =>
  new KernelWireGuard(place.exec, device, systemClock, (port) => insidePlace(place, () => openProbeSocket(port)));
