package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The kernel's generic netlink interface, include/uapi/linux/nbd-netlink.h.
const (
	nbdCmdConnect    = 1
	nbdIndex         = 1
	nbdSizeBytes     = 2
	nbdBlockSize     = 3
	nbdServerFlags   = 5
	nbdSockets       = 7
	nbdSockItem      = 1
	nbdSockFD        = 1
	nbdPageBlockSize = 4096
)

// nbdRoot connects /dev/nbd0 and mounts the squashfs on it.
func nbdRoot(options map[string]string) error {
	n, err := strconv.Atoi(options["peer.connections"])
	if err != nil || n < 1 || n > 64 {
		return fmt.Errorf("peer.connections=%s", options["peer.connections"])
	}
	var size uint64
	var flags uint16
	sockets := nl.NewRtAttr(unix.NLA_F_NESTED|nbdSockets, nil)
	for range n {
		var f *os.File
		if f, size, flags, err = nbdConnect(options["peer.server"]); err != nil {
			return err
		}
		defer f.Close() // the kernel keeps the socket
		item := sockets.AddRtAttr(unix.NLA_F_NESTED|nbdSockItem, nil)
		item.AddRtAttr(nbdSockFD, nl.Uint32Attr(uint32(f.Fd())))
	}
	family, err := netlink.GenlFamilyGet("nbd")
	if err != nil {
		return fmt.Errorf("the kernel's NBD client: %w", err)
	}
	req := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_ACK)
	req.AddData(&nl.Genlmsg{Command: nbdCmdConnect, Version: 1})
	for _, a := range []*nl.RtAttr{
		nl.NewRtAttr(nbdIndex, nl.Uint32Attr(0)),
		nl.NewRtAttr(nbdSizeBytes, nl.Uint64Attr(size)),
		nl.NewRtAttr(nbdBlockSize, nl.Uint64Attr(nbdPageBlockSize)),
		nl.NewRtAttr(nbdServerFlags, nl.Uint64Attr(uint64(flags))),
		sockets,
	} {
		req.AddData(a)
	}
	if _, err := req.Execute(unix.NETLINK_GENERIC, 0); err != nil {
		return fmt.Errorf("connect /dev/nbd0: %w", err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := mount("/dev/nbd0", lower, "squashfs", unix.MS_RDONLY, "")
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// nbdConnect does the handshake for the default export, see the NBD protocol,
// "fixed newstyle negotiation".
func nbdConnect(server string) (_ *os.File, size uint64, flags uint16, err error) {
	c, err := net.DialTimeout("tcp", server, 30*time.Second)
	if err != nil {
		return nil, 0, 0, err
	}
	defer c.Close()
	var hello [18]byte
	if _, err := io.ReadFull(c, hello[:]); err != nil {
		return nil, 0, 0, err
	}
	if string(hello[:16]) != "NBDMAGICIHAVEOPT" {
		return nil, 0, 0, errors.New("not an NBD server")
	}
	const fixedNewstyle, noZeroes, exportName = 1, 2, 1
	request := binary.BigEndian.AppendUint32(nil, uint32(binary.BigEndian.Uint16(hello[16:]))&(fixedNewstyle|noZeroes))
	request = append(request, "IHAVEOPT"...)
	request = binary.BigEndian.AppendUint32(request, exportName)
	request = binary.BigEndian.AppendUint32(request, 0) // the empty name
	if _, err := c.Write(request); err != nil {
		return nil, 0, 0, err
	}
	answer := make([]byte, 10)
	if hello[17]&noZeroes == 0 {
		answer = make([]byte, 10+124)
	}
	if _, err := io.ReadFull(c, answer); err != nil {
		return nil, 0, 0, err
	}
	f, err := c.(*net.TCPConn).File()
	return f, binary.BigEndian.Uint64(answer), binary.BigEndian.Uint16(answer[8:]), err
}
