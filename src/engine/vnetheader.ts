/**
 * The header before every packet on a TUN descriptor with IFF_VNET_HDR (virtio 1.2 §5.1.6, <linux/virtio_net.h>);
 * integers in the machine's order, which is little-endian here:
 *
 *   0  u8 flags    1  u8 GSO type   2  u16 header bytes   4  u16 segment bytes
 *   6  u16 where the checksum starts                      8  u16 where it belongs, from there
 */
export const VNET_HEADER_BYTES = 10;
export const VNET_NEEDS_CHECKSUM = 1;
export const GSO_NONE = 0;
export const GSO_TCP4 = 1;
export const GSO_TCP6 = 4;
export const GSO_UDP = 5;

/** Of a packet that is whole, checksum and all. */
export function clearVnetHeader(view: DataView, at: number): void {
  view.setUint32(at, 0);
  view.setUint32(at + 4, 0);
  view.setUint16(at + 8, 0);
}

export function writeVnetHeader(
  view: DataView,
  at: number,
  header: {
    readonly gsoType: number;
    readonly headerBytes: number;
    readonly segmentBytes: number;
    readonly checksumStart: number;
    readonly checksumOffset: number;
  },
): void {
  view.setUint8(at, VNET_NEEDS_CHECKSUM);
  view.setUint8(at + 1, header.gsoType);
  view.setUint16(at + 2, header.headerBytes, true);
  view.setUint16(at + 4, header.segmentBytes, true);
  view.setUint16(at + 6, header.checksumStart, true);
  view.setUint16(at + 8, header.checksumOffset, true);
}
