package doctor

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/inetboot/inetboot/catalog"
)

// roots reads the image's root as machines without preboot do.
func (d *doctor) roots(ctx context.Context, m *catalog.Manifest) {
	name := m.Name + "/" + m.Version + "/" + m.Arch
	erofs := m.Root.Type == "erofs"
	check := func(what string, port int, option string, read func(net.Conn, string) (string, error)) {
		if port == 0 {
			d.add(Finding{StageRoot, what, Skipped, "", "not served", ""})
			return
		}
		f := Finding{StageRoot, what, OK, fmt.Sprintf("%s of %s at %v, port %d", what, name, d.o.Server, port), "", ""}
		got, err := func() (string, error) {
			dialer := net.Dialer{Timeout: d.o.Wait}
			conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(d.o.Server, uint16(port)).String())
			if err != nil {
				return "", err
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(4 * d.o.Wait)); err != nil {
				return "", err
			}
			return read(conn, name)
		}()
		f.Got = got
		if err != nil {
			f.Status = Failed
			if f.Got, f.Next = d.why(err, "tcp", port, what, option); errors.Is(err, io.EOF) {
				f.Got, f.Next = "the connection is closed at once", "this machine is in none of the networks that may use it: --roots-network"
			}
		}
		d.add(f)
	}
	if m.NoRoot() {
		d.add(Finding{StageRoot, "all", Skipped, "", name + " has no root", ""})
		return
	}
	if erofs {
		check("NFS", d.o.NFS, "--nfs", readNFS)
	} else {
		d.add(Finding{StageRoot, "NFS", Skipped, "", name + " is no EROFS, which NFS needs", ""})
	}
	check("NBD", d.o.NBD, "--nbd", func(c net.Conn, name string) (string, error) { return readNBD(c, name, erofs) })
}

const maxReply = 1 << 20 // bytes of an answer

// rpc calls a procedure of ONC RPC (RFC 5531) and returns its results.
func rpc(c net.Conn, program, version, proc uint32, args []byte) ([]byte, error) {
	const xid = 0x646f6331
	b := make([]byte, 0, 64+len(args))
	for _, v := range []uint32{0x80000000 | uint32(40+len(args)), xid, 0, 2, program, version, proc, 0, 0, 0, 0} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	if _, err := c.Write(append(b, args...)); err != nil {
		return nil, err
	}
	var reply []byte
	for last := false; !last; {
		var head [4]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return nil, err
		}
		n := binary.BigEndian.Uint32(head[:])
		last, n = n>>31 == 1, n&0x7fffffff
		if int(n)+len(reply) > maxReply {
			return nil, fmt.Errorf("an RPC reply of more than %d bytes", maxReply)
		}
		at := len(reply)
		reply = append(reply, make([]byte, n)...)
		if _, err := io.ReadFull(c, reply[at:]); err != nil {
			return nil, err
		}
	}
	return parseRPC(reply, xid)
}

func parseRPC(b []byte, xid uint32) ([]byte, error) {
	word := func(i int) uint32 { return binary.BigEndian.Uint32(b[4*i:]) }
	if len(b) < 24 || word(0) != xid || word(1) != 1 {
		return nil, errors.New("no RPC reply")
	}
	if word(2) != 0 {
		return nil, errors.New("the RPC call is denied")
	}
	verifier := word(4)
	if verifier > 400 || len(b) < 24+int(verifier) {
		return nil, errors.New("an RPC reply that is too short")
	}
	b = b[20+verifier:]
	if s := binary.BigEndian.Uint32(b); s != 0 {
		return nil, fmt.Errorf("the RPC call is not accepted: status %d", s)
	}
	return b[4:], nil
}

func opaque(b []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
	out = append(out, b...)
	return append(out, make([]byte, (4-len(b)%4)%4)...)
}

// readNFS mounts an export (RFC 1813, appendix I) and reads its directory.
func readNFS(c net.Conn, name string) (string, error) {
	got, err := rpc(c, 100005, 3, 1, opaque([]byte("/"+name)))
	if err != nil {
		return "", err
	}
	if len(got) < 8 {
		return "", errors.New("an answer to MNT that is too short")
	}
	if s := binary.BigEndian.Uint32(got); s != 0 {
		return "", fmt.Errorf("MNT /%s: status %d", name, s)
	}
	n := binary.BigEndian.Uint32(got[4:])
	if n > 64 || len(got) < 8+int(n) {
		return "", errors.New("an answer to MNT with a handle that is too long")
	}
	args := opaque(got[8 : 8+n])
	args = append(args, make([]byte, 16)...) // from the start
	args = binary.BigEndian.AppendUint32(args, 32<<10)
	if got, err = rpc(c, 100003, 3, 16, args); err != nil {
		return "", err
	}
	if len(got) < 4 || binary.BigEndian.Uint32(got) != 0 {
		return "", errors.New("READDIR of the root fails")
	}
	return fmt.Sprintf("mounted, and %d bytes of the directory read", len(got)), nil
}

// readNBD opens an export and reads its first bytes.
func readNBD(c net.Conn, name string, erofs bool) (string, error) {
	be := binary.BigEndian
	var hello [18]byte
	if _, err := io.ReadFull(c, hello[:]); err != nil {
		return "", err
	}
	if string(hello[:16]) != "NBDMAGICIHAVEOPT" {
		return "", errors.New("no NBD server")
	}
	b := be.AppendUint32(nil, 3) // fixed newstyle, no zeroes
	b = append(b, "IHAVEOPT"...)
	b = be.AppendUint32(b, 1) // NBD_OPT_EXPORT_NAME
	b = be.AppendUint32(b, uint32(len(name)))
	if _, err := c.Write(append(b, name...)); err != nil {
		return "", err
	}
	var export [10]byte
	if _, err := io.ReadFull(c, export[:]); err != nil {
		return "", fmt.Errorf("there is no export %s: %w", name, err)
	}
	size := be.Uint64(export[:])
	n := min(size, 64<<10)
	b = be.AppendUint32(nil, 0x25609513)
	b = be.AppendUint32(b, 0) // NBD_CMD_READ
	b = append(b, "doctor  "...)
	b = be.AppendUint64(b, 0)
	if _, err := c.Write(be.AppendUint32(b, uint32(n))); err != nil {
		return "", err
	}
	var reply [16]byte
	if _, err := io.ReadFull(c, reply[:]); err != nil {
		return "", err
	}
	if be.Uint32(reply[:]) != 0x67446698 || string(reply[8:]) != "doctor  " {
		return "", errors.New("no reply of NBD")
	}
	if e := be.Uint32(reply[4:]); e != 0 {
		return "", fmt.Errorf("the read fails with error %d: blocks are missing in the store, or damaged", e)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(c, data); err != nil {
		return "", err
	}
	if erofs && (len(data) < 1028 || !bytes.Equal(data[1024:1028], []byte{0xe2, 0xe1, 0xf5, 0xe0})) {
		return "", errors.New("what comes is no EROFS")
	}
	return fmt.Sprintf("%d bytes of %d read", n, size), nil
}
