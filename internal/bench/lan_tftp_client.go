package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// tftpGet reads a file by TFTP and writes it to out, as a boot ROM does, but
// with as little work as can be: it shows what the server can do. It blocks in
// system calls of its own thread, so nothing but the line is between it and the
// server. from is its own address, which may be none. A server without
// windowsize answers without it. It returns the window that was agreed on.
func tftpGet(ctx context.Context, from netip.Addr, server netip.AddrPort, file string, block, window int, out io.Writer) (agreed int, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	if from.IsValid() {
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
			return 0, fmt.Errorf("bind: %w", err)
		}
	}
	tv := unix.NsecToTimeval(int64(time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return 0, err
	}
	request := []byte{0, 1}
	options := []string{file, "octet", "blksize", strconv.Itoa(block)}
	if window > 1 {
		options = append(options, "windowsize", strconv.Itoa(window))
	}
	for _, s := range options {
		request = append(append(request, s...), 0)
	}
	ask := func() error {
		return unix.Sendto(fd, request, 0, &unix.SockaddrInet4{Port: int(server.Port()), Addr: server.Addr().As4()})
	}
	if err := ask(); err != nil {
		return 0, fmt.Errorf("request: %w", err)
	}
	buf := make([]byte, 4+block)
	agreed, connected := 1, false
	have, inWindow := uint16(0), 0
	told := -1 // block behind which a loss was told
	acknowledge := func() error {
		inWindow = 0
		_, err := unix.Write(fd, []byte{0, 4, byte(have >> 8), byte(have)})
		return err
	}
	for silent := 0; silent < 10; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		var n int
		if connected {
			n, err = unix.Read(fd, buf)
		} else {
			var from unix.Sockaddr
			if n, from, err = unix.Recvfrom(fd, buf, 0); err == nil {
				err = unix.Connect(fd, from) // the transfer's own port
				connected = true
			}
		}
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			silent++
			if connected {
				err = acknowledge()
			} else {
				err = ask()
			}
			if err != nil {
				return 0, err
			}
			continue
		case err != nil:
			return 0, fmt.Errorf("read: %w", err)
		case n < 4:
			continue
		}
		silent = 0
		switch binary.BigEndian.Uint16(buf) {
		case 5:
			return 0, fmt.Errorf("the server says: %q", buf[4:n])
		case 6:
			fields := bytes.Split(buf[2:n], []byte{0})
			for i := 0; i+1 < len(fields); i += 2 {
				v, err := strconv.Atoi(string(fields[i+1]))
				if err != nil {
					return 0, fmt.Errorf("option %q: %w", fields[i], err)
				}
				switch string(bytes.ToLower(fields[i])) {
				case "blksize":
					if v != block {
						return 0, fmt.Errorf("blocks of %d bytes; want %d", v, block)
					}
				case "windowsize":
					agreed = v
				}
			}
			if err := acknowledge(); err != nil {
				return 0, err
			}
		case 3:
			number := binary.BigEndian.Uint16(buf[2:])
			if number != have+1 {
				if number-have < 1<<15 && number != have && told != int(have) { // one is missing, which is told once
					told = int(have)
					if err := acknowledge(); err != nil {
						return 0, err
					}
				}
				continue
			}
			have = number
			inWindow++
			end := n < 4+block
			if end || inWindow == agreed {
				if err := acknowledge(); err != nil {
					return 0, err
				}
			}
			if _, err := out.Write(buf[4:n]); err != nil {
				return 0, err
			}
			if end {
				return agreed, nil
			}
		}
	}
	return 0, errors.New("the server is silent")
}
