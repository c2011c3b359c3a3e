package doctor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/inetboot/inetboot/server/lan/efi"
)

const maxBootFile = 256 << 20 // bytes

// Opcodes of RFC 1350 and RFC 2347.
const (
	opRead  = 1
	opData  = 3
	opAck   = 4
	opError = 5
	opOACK  = 6
)

const tftpBlock = 1428 // what firmware asks for

// tftpReply is a packet of a TFTP server.
type tftpReply struct {
	op    uint16
	block uint16
	data  []byte // of a block, or the text of an error
}

func parseTFTP(b []byte) (r tftpReply, err error) {
	if len(b) < 4 {
		return r, fmt.Errorf("a packet of %d bytes", len(b))
	}
	r.op, r.block, r.data = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), b[4:]
	switch r.op {
	case opOACK:
		r.block, r.data = 0, b[2:]
	case opData, opError:
	default:
		return r, fmt.Errorf("a packet with opcode %d", r.op)
	}
	return r, nil
}

// fetchTFTP reads a file and returns its length and first bytes.
func fetchTFTP(ctx context.Context, server netip.AddrPort, name string, wait time.Duration) (size int64, head []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, fileTime)
	defer cancel()
	// A connected socket learns of refusals, but hears the server's first port only,
	// and the file comes from another one.
	knock, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return 0, nil, err
	}
	defer knock.Close()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: knock.LocalAddr().(*net.UDPAddr).IP})
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	request := append([]byte{0, opRead}, fmt.Sprintf("%s\x00octet\x00blksize\x00%d\x00tsize\x000\x00", name, tftpBlock)...)
	to, packet := server, request
	buf := make([]byte, 4+tftpBlock+64)
	expected, block := uint16(0), 512
	began := time.Now()
	for tries := 0; ; {
		if err := ctx.Err(); err != nil {
			return size, head, err
		}
		if _, err := conn.WriteToUDPAddrPort(packet, to); err != nil {
			return size, head, err
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return size, head, err
		}
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if tries++; to == server && time.Since(began) > wait {
				return size, head, refused(knock, request, err)
			} else if tries > 5 {
				return size, head, err
			}
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if from.Addr() != server.Addr() || (to != server && from != to) {
			continue
		}
		r, err := parseTFTP(buf[:n])
		switch {
		case err != nil:
			return size, head, err
		case r.op == opError && r.block == 1:
			return size, head, fmt.Errorf("%w: TFTP error 1: %s", fs.ErrNotExist, printable(string(r.data)))
		case r.op == opError:
			return size, head, fmt.Errorf("TFTP error %d: %s", r.block, printable(string(r.data)))
		case r.op == opOACK && to == server:
			to, expected, block, packet, tries = from, 1, tftpBlock, []byte{0, opAck, 0, 0}, 0
			continue
		case r.op == opData && to == server && r.block == 1:
			to, expected = from, 1 // a server without options
		}
		if r.op != opData || r.block != expected {
			continue
		}
		tries = 0
		if len(head) < 512 {
			head = append(head, r.data...)
		}
		if size += int64(len(r.data)); size > maxBootFile {
			return size, head, fmt.Errorf("more than %d bytes", maxBootFile)
		}
		packet = binary.BigEndian.AppendUint16([]byte{0, opAck}, r.block)
		expected++
		if len(r.data) < block {
			_, err := conn.WriteToUDPAddrPort(packet, to)
			return size, head, err
		}
	}
}

// refused tells a port that nobody listens at from one that a firewall hides.
func refused(knock *net.UDPConn, request []byte, silence error) error {
	if _, err := knock.Write(request); err != nil {
		return err
	}
	if err := knock.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		return err
	}
	if _, err := knock.Read(make([]byte, 1)); err != nil {
		var t net.Error
		if !errors.As(err, &t) || !t.Timeout() {
			return err
		}
	}
	return silence
}

// program judges a boot file of UEFI by its first bytes. Where the header is
// further behind, nothing is said of the machine.
func program(kind string, head []byte) (s Status, next string) {
	want := map[string]uint16{"uefi": efi.MachineX64, "http": efi.MachineX64, "arm64": efi.MachineARM64, "http-arm64": efi.MachineARM64}[kind]
	if want == 0 {
		return OK, ""
	}
	if len(head) < 2 || string(head[:2]) != "MZ" {
		return Failed, "that is no program of UEFI"
	}
	if m, ok := efi.Machine(head); ok && m != want {
		return Failed, fmt.Sprintf("that is a program of UEFI for another kind of machine: its type is %#x; want %#x", m, want)
	}
	return OK, ""
}

// tftp fetches the boot files that were named, and what a BIOS's loads next.
func (d *doctor) tftp(ctx context.Context) {
	var done []string
	silent := map[netip.Addr]bool{} // servers that do not answer need no second question
	fetch := func(kind string, server netip.Addr, file string) {
		key := server.String() + " " + file
		if slices.Contains(done, key) || silent[server] {
			return
		}
		done = append(done, key)
		f := Finding{StageTFTP, kind, OK, fmt.Sprintf("TFTP request for %s to %v, port %d", file, server, d.o.TFTPPort), "", ""}
		size, head, err := fetchTFTP(ctx, netip.AddrPortFrom(server, uint16(d.o.TFTPPort)), file, d.o.Wait)
		f.Got = fmt.Sprintf("%d bytes", size)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			f.Status, f.Got, f.Next = Failed, err.Error(), "the server does not have that file: look at --media, at the machine's settings, and at who named it; before a publisher has made a catalog there is none (imagetool init)"
		case err != nil:
			f.Status = Failed
			silent[server] = size == 0
			f.Got, f.Next = d.why(err, "udp", d.o.TFTPPort, "TFTP", "without --no-tftp, with --media")
			if size > 0 {
				f.Got = fmt.Sprintf("%s after %d bytes", f.Got, size)
			}
		default:
			f.Status, f.Next = program(kind, head)
		}
		d.add(f)
	}
	for _, b := range d.boots {
		if !b.from.IsValid() {
			continue
		}
		fetch(b.kind, b.from, b.file)
		if b.file == "pxelinux.0" {
			for _, n := range []string{"ldlinux.c32", "pxelinux.cfg/default"} {
				fetch(b.kind, b.from, n)
			}
		}
	}
	if len(done) == 0 {
		d.add(Finding{StageTFTP, "all", Skipped, "", "DHCP named no boot file for PXE", ""})
	}
}
