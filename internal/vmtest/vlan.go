package vmtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
)

// Trunk carries Ethernet frames between two of QEMU's dgram network devices:
// with a tag (IEEE 802.1Q) on the machine's side, without on the network's.
// QEMU has no switch with VLANs of its own, and kernels of build machines may
// have none.
type Trunk struct {
	sockets []*net.UDPConn
	done    sync.WaitGroup
	args    []string
}

// NewTrunk returns a Trunk for one machine and one VLAN, behind which there is
// QEMU's user networking.
func NewTrunk(vlan uint16) (*Trunk, error) {
	t := &Trunk{}
	for range 4 {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Close()
			return nil, fmt.Errorf("trunk: %w", err)
		}
		t.sockets = append(t.sockets, conn)
	}
	// QEMU binds two ports that have to be known to both: they were free a
	// moment ago.
	addr := func(i int) *net.UDPAddr { return t.sockets[i].LocalAddr().(*net.UDPAddr) }
	card, wire := addr(2), addr(3)
	t.sockets[2].Close()
	t.sockets[3].Close()
	t.sockets = t.sockets[:2]
	dgram := func(there, here *net.UDPAddr) string {
		return fmt.Sprintf("local.type=inet,local.host=127.0.0.1,local.port=%d,remote.type=inet,remote.host=127.0.0.1,remote.port=%d", there.Port, here.Port)
	}
	t.args = []string{
		"-netdev", "dgram,id=trunk," + dgram(card, addr(0)),
		"-netdev", "dgram,id=wire," + dgram(wire, addr(1)), "-netdev", "hubport,id=port0,hubid=0,netdev=wire",
		"-netdev", "user,id=behind", "-netdev", "hubport,id=port1,hubid=0,netdev=behind",
	}
	t.done.Go(func() {
		carry(t.sockets[0], t.sockets[1], wire, func(f []byte) []byte {
			if len(f) < 18 || binary.BigEndian.Uint16(f[12:]) != 0x8100 || binary.BigEndian.Uint16(f[14:])&0xfff != vlan {
				return nil
			}
			return append(slices.Clone(f[:12]), f[16:]...)
		})
	})
	t.done.Go(func() {
		carry(t.sockets[1], t.sockets[0], card, func(f []byte) []byte {
			if len(f) < 14 {
				return nil
			}
			return slices.Insert(slices.Clone(f), 12, 0x81, 0x00, byte(vlan>>8), byte(vlan))
		})
	})
	return t, nil
}

// carry sends what comes from one socket to there, changed; nil is dropped.
func carry(from, to *net.UDPConn, there *net.UDPAddr, change func([]byte) []byte) {
	buf := make([]byte, 65536)
	for {
		n, err := from.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // QEMU is not there yet, or no longer
		}
		if f := change(buf[:n]); f != nil {
			_, _ = to.WriteToUDP(f, there)
		}
	}
}

// Args returns arguments for Config.Args: a card with this MAC address at the
// trunk.
func (t *Trunk) Args(mac string) []string {
	return append(slices.Clone(t.args), "-device", "virtio-net-pci,netdev=trunk,romfile=,mac="+mac)
}

// Close ends the Trunk.
func (t *Trunk) Close() {
	for _, c := range t.sockets {
		c.Close()
	}
	t.done.Wait()
}
