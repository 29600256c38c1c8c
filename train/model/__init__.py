"""The method: network, ProtoNorm, OIM and LOIM, and the parts that they are built of."""
