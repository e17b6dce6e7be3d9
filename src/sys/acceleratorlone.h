/*
 * The half of accelerator.c that waits, and handles a lone packet after a rest by itself. Caches are cold then, and
 * what runs until the answer leaves is what the round trip waits for: this is a few pages of code where the general
 * way is a JavaScript engine. It takes what differs from the last packet in nothing but counter and content, and
 * leaves all else as it came, to the general way. lonepacket.ts says what is expected, and tells the protocol what
 * was done.
 */
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TUN = 1, VNET_BYTES = 10, VNET_NEEDS_CHECKSUM = 1, TRANSPORT = 4, TRANSPORT_HEADER = 16, REST_US = 1000 };
enum { PIECE_MAX = 65536, NAME_MAX_BYTES = 28, CONTROL_MAX = 128, ADDRESS_MAX = 16, PADDING = 16 };

struct lone {
  /* Whether to take anything; which of the descriptors is the peer's socket. */
  uint32_t armed, place;
  /* Where in memory: the message header and slot to receive with, those to send with, and where a piece that is left
   * to the general way belongs. */
  uint32_t reader, slot, sender, region, piece;
  /* The session. Counters in halves: the greatest that was received, the next to send. */
  uint32_t ours, theirs, greatest_low, greatest_high, send_low, send_high;
  /* The tunnel's MTU; after so long a rest the session is too old. */
  uint32_t mtu, rest_max_ms;
  uint8_t receive_key[KEY_BYTES], send_key[KEY_BYTES];
  /* What was done: a message received; the ciphertext of it opened, and its counter; a message sealed; its bytes
   * sent; bytes of a piece left to the general way. */
  uint32_t received, opened, opened_low, sealed, sent, left;
  struct message message;
};

/* What came beside the last message, and its packet's source. */
struct last {
  size_t name_bytes, control_bytes;
  uint8_t name[NAME_MAX_BYTES], control[CONTROL_MAX], address[ADDRESS_MAX];
  int six;
};

static int64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000ll + now.tv_nsec / 1000;
}

static int remember(struct last *last, const struct msghdr *header, const uint8_t *packet) {
  last->name_bytes = header->msg_namelen, last->control_bytes = header->msg_controllen;
  if (last->name_bytes > sizeof last->name || last->control_bytes > sizeof last->control) return 0;
  memcpy(last->name, header->msg_name, last->name_bytes);
  memcpy(last->control, header->msg_control, last->control_bytes);
  last->six = packet[0] >> 4 == 6;
  memcpy(last->address, packet + (last->six ? 8 : 12), last->six ? 16 : 4);
  return 1;
}

static int like(const struct last *last, const struct msghdr *header) {
  return header->msg_namelen == last->name_bytes && header->msg_controllen == last->control_bytes &&
         (header->msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 &&
         memcmp(header->msg_name, last->name, last->name_bytes) == 0 &&
         memcmp(header->msg_control, last->control, last->control_bytes) == 0;
}

static uint32_t big16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }

/* The packet's length when all of it is there and the peer's address is its source, or its destination; else 0. */
static uint32_t whole(const struct last *last, const uint8_t *packet, uint32_t held, int destination) {
  uint32_t least = last->six ? 40 : 20, size = last->six ? 16 : 4, from = last->six ? 8 : 12;
  if (held < least || packet[0] >> 4 != (last->six ? 6 : 4) || (!last->six && packet[0] < 0x45)) return 0;
  uint32_t bytes = last->six ? 40 + big16(packet + 4) : big16(packet + 2);
  if (bytes < least || bytes > held) return 0;
  return memcmp(packet + from + (destination ? size : 0), last->address, size) == 0 ? bytes : 0;
}

/* Makes the checksum that the kernel left to be made, if it did (virtio 1.2 §5.1.6, RFC 1071); 0 for nonsense. */
static int complete(const uint8_t *vnet, uint8_t *packet, uint32_t length) {
  uint16_t start, offset;
  uint32_t sum = 0;
  if ((vnet[0] & VNET_NEEDS_CHECKSUM) == 0) return 1;
  memcpy(&start, vnet + 6, sizeof start), memcpy(&offset, vnet + 8, sizeof offset);
  if (start + offset + 2u > length) return 0;
  for (uint32_t i = start; i < length; i += 2) sum += i + 1 < length ? big16(packet + i) : (uint32_t)packet[i] << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  /* RFC 768: all ones mean zero where zero means that there is none. */
  if (sum == 0xffff) sum = 0;
  packet[start + offset] = ~sum >> 8, packet[start + offset + 1] = ~sum;
  return 1;
}

/* From the socket to the TUN device; whether anything may have come of it. */
static int take(uint8_t *memory, struct lone *lone, const struct last *last, int socket, int tun) {
  struct mmsghdr *reader = (struct mmsghdr *)(memory + lone->reader);
  uint8_t *datagram = memory + lone->slot, *packet = datagram + TRANSPORT_HEADER;
  reader->msg_hdr.msg_namelen = NAME_MAX_BYTES, reader->msg_hdr.msg_controllen = CONTROL_MAX;
  ssize_t got = recvmsg(socket, &reader->msg_hdr, MSG_DONTWAIT);
  if (got < 0) return 0;
  uint32_t head[4], size = reader->msg_len = got;
  lone->received = 1;
  if (size < TRANSPORT_HEADER + POLY_BLOCK || !like(last, &reader->msg_hdr)) return 0;
  memcpy(head, datagram, sizeof head);
  /* A counter greater than all before was never received: nothing is asked of the window. */
  if (head[0] != TRANSPORT || head[1] != lone->ours) return 0;
  if (head[2] <= lone->greatest_low || head[3] != lone->greatest_high) return 0;
  uint32_t length = size - TRANSPORT_HEADER - POLY_BLOCK;
  lone->message = (struct message){lone->slot + TRANSPORT_HEADER, length, head[2], head[3], 0};
  run(memory, lone->receive_key, &lone->message, 1, 0);
  if (!lone->message.genuine) return 0;
  uint32_t bytes = whole(last, packet, length, 0);
  if (bytes == 0) {
    /* Sealing is the reverse of opening: it lies there as it came. */
    run(memory, lone->receive_key, &lone->message, 1, 1);
    return 0;
  }
  lone->received = 0, lone->opened = size, lone->opened_low = head[2];
  memset(packet - VNET_BYTES, 0, VNET_BYTES);
  /* A full queue, or an interface that is down, loses the packet, as any network does. */
  return write(tun, packet - VNET_BYTES, VNET_BYTES + bytes) > 0;
}

/* From the TUN device to the socket. The piece is read to where its packet is sent from. */
static void answer(uint8_t *memory, struct lone *lone, const struct last *last, int socket, int tun) {
  struct msghdr *sender = (struct msghdr *)(memory + lone->sender);
  uint8_t *datagram = memory + lone->region, *packet = datagram + TRANSPORT_HEADER, *vnet = packet - VNET_BYTES;
  ssize_t got = read(tun, vnet, PIECE_MAX);
  if (got <= VNET_BYTES) return;
  uint32_t length = got - VNET_BYTES, padded = (length + PADDING - 1) & -(uint32_t)PADDING;
  uint32_t ecn = last->six ? packet[1] >> 4 & 3 : packet[1] & 3;
  memcpy(memory + lone->piece, vnet, got);
  lone->left = got;
  if (vnet[1] != 0 || ecn != 0 || whole(last, packet, length, 1) != length || !complete(vnet, packet, length)) return;
  if (padded > lone->mtu) padded = length > lone->mtu ? length : lone->mtu;
  memset(packet + length, 0, padded - length);
  uint32_t head[4] = {TRANSPORT, lone->theirs, lone->send_low, lone->send_high};
  memcpy(datagram, head, sizeof head);
  lone->message = (struct message){lone->region + TRANSPORT_HEADER, padded, lone->send_low, lone->send_high, 0};
  run(memory, lone->send_key, &lone->message, 1, 1);
  lone->sealed = 1;
  sender->msg_iov->iov_base = datagram;
  sender->msg_iov->iov_len = TRANSPORT_HEADER + padded + POLY_BLOCK;
  ssize_t sent = sendmsg(socket, sender, 0);
  if (sent > 0) lone->sent = sent, lone->left = 0;
}

/*
 * Waits as poll() does and returns what it returns. After a rest, when one descriptor alone has something: handles
 * one packet from the peer, and one to it.
 */
int exn_wait(uint8_t *memory, struct lone *lone, struct pollfd *fds, int count, int timeout_ms) {
  struct last last;
  const struct msghdr *header = &((struct mmsghdr *)(memory + lone->reader))->msg_hdr;
  lone->received = lone->opened = lone->sealed = lone->sent = lone->left = 0;
  if (!lone->armed || !remember(&last, header, memory + lone->slot + TRANSPORT_HEADER))
    return poll(fds, count, timeout_ms);
  int64_t before = now_us();
  int found = poll(fds, count, timeout_ms);
  if (found != 1) return found;
  int64_t rest = now_us() - before;
  if (rest < REST_US || rest / 1000 >= lone->rest_max_ms) return found;
  int socket = fds[lone->place].fd, tun = fds[TUN].fd;
  if (fds[TUN].revents == POLLIN) answer(memory, lone, &last, socket, tun);
  else if (fds[lone->place].revents == POLLIN && take(memory, lone, &last, socket, tun))
    answer(memory, lone, &last, socket, tun);
  return found;
}
