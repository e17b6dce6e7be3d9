import { placeOf } from "../engine/places.js";
import { kernelIn } from "./kernelbench.js";
import { sample } from "./sample.js";

/** A process that holds an interface as an agent does, until it is killed: holder.js PLACE DEVICE */
const [place = "", device = ""] = process.argv.slice(2);
await kernelIn(placeOf(place), device).set(sample(device));
process.stdout.write("set\n");
setInterval(() => undefined, 60_000);
